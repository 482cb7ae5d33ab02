"""What can go wrong between a worker and Asterisk.

TelephonyError
├── AriUnavailableError       Asterisk does not answer, or the connection broke
│   └── AriRefusedError       nobody listens at Asterisk's port: it is not running
├── AriRequestError           Asterisk refused a request
│   └── ChannelGoneError      the channel or bridge does not exist (any more)
├── CallerGoneError           the caller hung up while the call was being set up
├── MediaLegError             the media websocket could not be set up
└── StasisAppReplacedError    another worker registered our Stasis app's name
"""

from contract.errors import Blame, BoroughError


class TelephonyError(BoroughError):
    """Base of this tree."""

    code = "telephony.error"
    hint = "see the worker's log"


class AriUnavailableError(TelephonyError):
    """Asterisk does not answer, or the connection broke."""

    code = "telephony.ari_unavailable"
    hint = "is Asterisk running? systemctl status asterisk"


class AriRefusedError(AriUnavailableError):
    """Nobody listens at Asterisk's port: it is not running, and whatever was in it is gone."""

    code = "telephony.ari_refused"
    hint = "Asterisk is not running: systemctl status asterisk"


class AriRequestError(TelephonyError):
    """Asterisk refused a request. `status` is HTTP's, as the ARI documentation lists them per operation."""

    code = "telephony.ari_request"

    def __init__(self, operation: str, status: int, message: str) -> None:
        super().__init__(f"{operation}: {status} {message}")
        self.status = status


class ChannelGoneError(AriRequestError):
    """The channel or bridge does not exist (any more), or has left Stasis."""

    code = "telephony.channel_gone"
    blame = Blame.REMOTE
    hint = "nothing to do: somebody hung up"


class CallerGoneError(TelephonyError):
    """The caller hung up while the call was being set up."""

    code = "telephony.caller_gone"
    blame = Blame.REMOTE
    hint = "nothing to do: the caller hung up"


class MediaLegError(TelephonyError):
    """The media websocket could not be set up."""

    code = "telephony.media_leg"
    hint = "see Asterisk's log for chan_websocket"


class StasisAppReplacedError(TelephonyError):
    """Another worker registered our Stasis app's name: Asterisk now sends our calls there."""

    code = "telephony.stasis_app_replaced"
    blame = Blame.OPERATOR
    hint = "give every worker its own app name: calls@N registers calls-N"
