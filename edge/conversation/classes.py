"""Words that stand for a class: whoever names a country asks about "another country", euros are "foreign currency".

A document answers for the class; callers name one of its members. Pure; tables for English.
"""

import re

# The home country is missing on purpose; so are names that are words or first names as well (Turkey, Chad, Jordan).
_COUNTRIES = (
    "afghanistan|albania|algeria|argentina|australia|austria|bangladesh|belgium|bolivia|brazil|bulgaria|cambodia"
    "|canada|chile|china|colombia|costa rica|croatia|cuba|cyprus|czech republic|denmark|dominican republic|ecuador"
    "|egypt|england|estonia|ethiopia|finland|france|germany|ghana|great britain|greece|guatemala|haiti|honduras"
    "|hong kong|hungary|iceland|india|indonesia|iran|iraq|ireland|israel|italy|jamaica|japan|kenya|korea|latvia"
    "|lebanon|lithuania|luxembourg|malaysia|malta|mexico|morocco|nepal|netherlands|holland|new zealand|nicaragua"
    "|nigeria|norway|pakistan|panama|paraguay|peru|philippines|poland|portugal|romania|russia|saudi arabia|scotland"
    "|senegal|serbia|singapore|slovakia|slovenia|south africa|south korea|spain|sri lanka|sweden|switzerland|syria"
    "|taiwan|tanzania|thailand|tunisia|uganda|ukraine|united kingdom|uruguay|venezuela|vietnam|wales"
    "|europe|asia|africa|south america|latin america"
)
_PLACE = re.compile(rf"\b(?:the )?(?:{_COUNTRIES})\b", re.IGNORECASE)
_CURRENCY = re.compile(
    r"\b(?:some |a few )?(?:euros?|british pounds?|pounds sterling|(?:japanese )?yen|swiss francs?|francs?|pesos?"
    r"|rupees?|kron(?:or|er|a|e)|zloty|yuan|canadian dollars?|australian dollars?)\b",
    re.IGNORECASE,
)


def with_classes(text: str) -> str:
    """Replace countries and currencies by what documents call them."""
    return _CURRENCY.sub("foreign currency", _PLACE.sub("another country", text))
