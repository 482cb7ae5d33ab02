"""Records that tests write."""

from datetime import UTC, datetime, timedelta

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome
from edge.records.model import CallRecord, TransferRecord, Transport, TurnRecord
from edge.records.subjects import SubjectId

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ANNA = SubjectId("a" * 32)
BERT = SubjectId("b" * 32)


def a_call(call_id: str = "c1", *, tenant: str = "acme", subject: SubjectId = ANNA, ended: bool = False) -> CallRecord:
    return CallRecord(
        call_id=call_id,
        tenant=tenant,
        agent="pharmacy",
        agent_version="3",
        subject_id=subject,
        called_number="+4930123456",
        transport=Transport.SIP,
        started_at=NOON,
        answered_at=NOON + timedelta(seconds=1),
        ended_at=NOON + timedelta(seconds=60) if ended else None,
        outcome=CallOutcome.CONTAINED if ended else None,
        hangup_cause=HangupCause.NORMAL if ended else None,
        reason="goodbye" if ended else None,
    )


def a_turn(
    seq: int = 1,
    *,
    call_id: str = "c1",
    tenant: str = "acme",
    subject: SubjectId = ANNA,
    caller_text: str = "my name is Anna Marlowe",
) -> TurnRecord:
    return TurnRecord(
        call_id=call_id,
        tenant=tenant,
        subject_id=subject,
        seq=seq,
        began_at=NOON + timedelta(seconds=seq),
        caller_text=caller_text,
        agent_text="Thank you, Anna.",
        intent="introduce",
        confidence=0.9,
    )


def a_transfer(call_id: str = "c1") -> TransferRecord:
    return TransferRecord(
        call_id=call_id,
        tenant="acme",
        seq=1,
        destination="sip:dr.jekyll@desk",
        reason="asked",
        began_at=NOON,
        took_ms=900,
        outcome=TransferOutcome.BUSY,
    )
