"""Names that the release itself gives to what happens on a call; documents give all others.

An intent or reason that travels up is one of these or stands in the documents of its tenant. Anything else is OTHER.
"""

OTHER = "other"
# The answer of a knowledge item, without an intent of the documents.
KNOWLEDGE_INTENT = "knowledge"
# Answers to a question of the agent (`slot:<name>`) and results of tools (`tool:<name>`): counted without the name.
SLOT_INTENT = "slot"
TOOL_INTENT = "tool"

# What a turn was about when it was about the conversation itself.
CONVERSATION_INTENTS = frozenset(
    {
        "cancel",
        "confirm",
        "consent_declined",
        "consent_given",
        "consent_unclear",
        "decline",
        "go_back",
        "human",
        "no",
        "no_input",
        "not_understood",
        "nothing",
        "opening",
        "repeat",
        "resume",
        "ring_back",
        "sensitive",
        "slot_missed",
        "start_over",
        "transfer_failed",
        "waiting",
        "yes",
        SLOT_INTENT,
        TOOL_INTENT,
        OTHER,
    }
)
BUILTIN_INTENTS = CONVERSATION_INTENTS | {KNOWLEDGE_INTENT}

# Why a caller was handed over.
BUILTIN_REASONS = frozenset(
    {
        "asked_for_human",
        "consent_declined",
        "consent_unclear",
        "misunderstood",
        "not_known",
        "technical_problem",
        "tool_failed",
        OTHER,
    }
)
