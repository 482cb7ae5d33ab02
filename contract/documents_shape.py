"""Checks one document against its shape; every mistake names the key and what is allowed there. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from rapidfuzz import process

from contract.documents import DOCUMENTS, AnyDocument
from contract.documents_source import DocumentProblem, KeyPath, SourceDocument

# Below this a "did you mean" is a guess about another word.
_SUGGESTION_CUTOFF = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedDocument:
    """A document whose shape is right, and where it stands."""

    source: SourceDocument
    document: AnyDocument


def check_shape(source: SourceDocument) -> tuple[AnyDocument | None, list[DocumentProblem]]:
    """The document in its type, or every mistake in its shape."""
    kind = source.value.get("kind")
    model = DOCUMENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        allowed = ", ".join(sorted(DOCUMENTS))
        hint = suggestion(str(kind), DOCUMENTS)
        message = f"{kind!r} is not a kind of document; one of {allowed}"
        return None, [source.problem(("kind",), message, hint)]
    try:
        return model.model_validate(source.value), []
    except ValidationError as error:
        return None, [
            _explain(source, model, problem["loc"], problem["type"], problem["msg"]) for problem in error.errors()
        ]


def _explain(
    source: SourceDocument, model: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str
) -> DocumentProblem:
    key = _real_path(source, location)
    if kind == "extra_forbidden":
        allowed = sorted(_keys_at(model, key[:-1]))
        text = f"is not a known key; one of {', '.join(allowed)}" if allowed else "is not a known key"
        return source.problem(key, text, suggestion(str(key[-1]), allowed))
    return source.problem(key, message.removeprefix("Value error, "))


def _real_path(source: SourceDocument, location: tuple[int | str, ...]) -> KeyPath:
    """Drop the parts pydantic adds for unions and keys, which the file does not have."""
    path: KeyPath = ()
    for part in location:
        if (*path, part) in source.lines:
            path = (*path, part)
    last = location[-1] if location else ""
    return path if (path and path[-1] == last) or isinstance(last, int) or last == "[key]" else (*path, str(last))


def _keys_at(model: type[BaseModel], path: KeyPath) -> set[str]:
    """Return the keys allowed in the mapping at `path`."""
    here: list[object] = [model]
    for part in path:
        found: list[object] = []
        for candidate in here:
            found += _inside(candidate, part)
        here = found
    return {name for candidate in here for name in _fields(candidate)}


def _fields(candidate: object) -> Iterable[str]:
    if not (isinstance(candidate, type) and issubclass(candidate, BaseModel)):
        return ()
    return [field.alias or name for name, field in candidate.model_fields.items()]


def _inside(candidate: object, part: str | int) -> list[object]:
    if isinstance(candidate, type) and issubclass(candidate, BaseModel):
        fields = candidate.model_fields
        information = fields.get(str(part)) or fields.get(f"{part}_")
        return _models_of(information.annotation) if information is not None else []
    return list(candidate.models) if isinstance(candidate, _Entries) else []


def _models_of(annotation: object) -> list[object]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments: tuple[object, ...] = getattr(annotation, "__args__", ())
    inner = [model for argument in arguments for model in _models_of(argument)]
    return [_Entries(models=tuple(inner))] if getattr(annotation, "__origin__", None) in {list, dict} else inner


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    models: tuple[object, ...]


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """A "did you mean", or nothing."""
    best = process.extractOne(word, list(allowed), score_cutoff=_SUGGESTION_CUTOFF)
    return f"did you mean {best[0]!r}?" if best is not None else ""
