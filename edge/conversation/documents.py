"""From an operator's directory of YAML to an `Agent`, or to the full list of its mistakes.

A directory holds one Tenant, its Agents, Flows and Policies in `*.yaml`, one or several documents a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from contract import documents as schema
from contract.documents_references import reference_problems
from contract.documents_shape import CheckedDocument, check_shape, suggestion
from contract.documents_source import DocumentProblem, KeyPath, SourceDocument, read_documents
from edge.conversation.agent import (
    Agent,
    Answer,
    Argument,
    Ask,
    Bands,
    Choice,
    Confirm,
    Consent,
    Finish,
    Flow,
    HandOver,
    Intent,
    KnowledgeSource,
    Phrases,
    Policy,
    ReplyStyle,
    Say,
    Slot,
    SlotKind,
    Step,
    StepAct,
    ToolSpec,
    UseTool,
)
from edge.conversation.errors import DocumentsInvalidError
from edge.conversation.template import TemplateError, placeholders

_Doc = TypeVar("_Doc", schema.AgentDocument, schema.FlowDocument, schema.TenantDocument, schema.PolicyDocument)


def load_agents(directory: Path, *, has_replica: bool = False) -> tuple[Agent, ...]:
    """Return the agents of a tenant's directory. Raises DocumentsInvalidError with every problem found.

    With a replica the items come from there: the files that an operator built the knowledge from need not be here.
    """
    problems: list[DocumentProblem] = []
    checked: list[CheckedDocument] = []
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise DocumentsInvalidError([_problem(directory, 1, directory.name, "holds no *.yaml file")])
    for path in paths:
        try:
            sources, found = read_documents(path, path.read_bytes())
        except OSError as error:
            problems.append(_problem(path, 1, path.name, f"cannot be read: {error.strerror}"))
            continue
        problems += found
        for source in sources:
            document, found = check_shape(source)
            problems += found
            if document is not None:
                checked.append(CheckedDocument(source=source, document=document))
    if problems:
        raise DocumentsInvalidError(problems)
    return _Tenant(directory, checked, has_replica=has_replica).agents()


def problems_of(tenant: str, documents: Sequence[CheckedDocument]) -> tuple[DocumentProblem, ...]:
    """What keeps a node from serving all documents of a tenant; `borough apply` asks before it sends them."""
    try:
        _Tenant(Path(tenant), documents, has_replica=True).agents()
    except DocumentsInvalidError as error:
        return error.problems
    return ()


class _Tenant:
    """The checked documents of one directory, joined; every reference must lead somewhere."""

    def __init__(self, directory: Path, checked: Sequence[CheckedDocument], *, has_replica: bool) -> None:
        self._directory = directory
        self._checked = checked
        self._has_replica = has_replica
        self._problems: list[DocumentProblem] = []

    def agents(self) -> tuple[Agent, ...]:
        tenant = self._only_tenant()
        if tenant is not None:
            self._problems += reference_problems(self._checked)
        policies = {name: _policy(document.spec) for name, _, document in self._named(schema.PolicyDocument)}
        flows = {name: (source, document.spec) for name, source, document in self._named(schema.FlowDocument)}
        agents: list[Agent] = []
        if tenant is not None:
            tools = {name: self._tool(name, part) for name, part in tenant.spec.tools.items()}
            for source, spec in flows.values():
                self._check_flow(source, spec, tenant.spec.tools)
            built = {name: _flow(name, spec) for name, (_, spec) in flows.items()}
            for name, source, document in self._named(schema.AgentDocument):
                self._check_agent(source, document.spec)
                if not self._problems:
                    policy = policies.get(document.spec.policy or "", Policy())
                    agents.append(self._agent(name, document.spec, tenant, policy, built, tools))
        if not any(isinstance(entry.document, schema.AgentDocument) for entry in self._checked):
            self._problems.append(_problem(self._directory, 1, "kind", "there is no Agent document"))
        if self._problems:
            raise DocumentsInvalidError(self._problems)
        return tuple(agents)

    def _named(self, kind: type[_Doc]) -> list[tuple[str, SourceDocument, _Doc]]:
        found: dict[str, tuple[str, SourceDocument, _Doc]] = {}
        for entry in self._checked:
            if isinstance(entry.document, kind):
                found[entry.document.metadata.name] = (entry.document.metadata.name, entry.source, entry.document)
        return list(found.values())

    def _only_tenant(self) -> schema.TenantDocument | None:
        tenants = [entry.document for entry in self._checked if isinstance(entry.document, schema.TenantDocument)]
        if len(tenants) != 1:
            text = f"there must be one Tenant document, found {len(tenants)}"
            self._problems.append(_problem(self._directory, 1, "kind", text))
            return None
        return tenants[0]

    def _check_flow(self, source: SourceDocument, spec: schema.FlowSpec, tools: Mapping[str, schema.ToolPart]) -> None:
        known = {*spec.slots, "title"}
        for index, step in enumerate(spec.steps):
            if step.tool is not None and step.tool.name in tools:
                known |= set(tools[step.tool.name].returns)
            for text in _texts_of(step):
                self._check_template(source, ("spec", "steps", index), text, known)

    def _check_agent(self, source: SourceDocument, spec: schema.AgentSpec) -> None:
        for index, part in enumerate(spec.knowledge):
            if part.file is not None and not self._has_replica and not (self._directory / part.file).is_file():
                self._complain(source, ("spec", "knowledge", index, "file"), f"{part.file!r} is not a file")
        for name, intent in spec.intents.items():
            key: KeyPath = ("spec", "intents", name)
            self._check_template(source, (*key, "title"), intent.title or name, {"item"} if intent.item else set())
            for answer in _answers(intent):
                self._check_template(source, (*key, "answer"), answer.text, None if intent.item else set())
        self._check_template(source, ("spec", "phrases", "confirm"), spec.phrases.confirm, {"question"})
        self._check_template(source, ("spec", "phrases", "back_to_flow"), spec.phrases.back_to_flow, {"title"})
        self._check_template(source, ("spec", "phrases", "ring_back_topic"), spec.phrases.ring_back_topic, {"title"})

    def _check_template(self, source: SourceDocument, key: KeyPath, text: str, known: set[str] | None) -> None:
        try:
            places = placeholders(text)
        except TemplateError as error:
            self._complain(source, key, str(error))
            return
        for place in places:
            if known is not None and place.name not in known:
                self._complain(source, key, f"{{{place.name}}} has no value here", suggestion(place.name, known))

    def _complain(self, source: SourceDocument, key: KeyPath, message: str, hint: str = "") -> None:
        self._problems.append(source.problem(key, message, hint))

    def _tool(self, name: str, part: schema.ToolPart) -> ToolSpec:
        arguments = {
            argument: Argument(kind=SlotKind(spec.kind), digits=spec.digits)
            for argument, spec in part.arguments.items()
        }
        return ToolSpec(
            name=name,
            url=part.url,
            arguments=arguments,
            timeout_s=part.timeout_s,
            response_limit_bytes=part.response_limit_bytes,
            secret_file=self._directory / part.secret_file if part.secret_file is not None else None,
        )

    def _agent(
        self,
        name: str,
        spec: schema.AgentSpec,
        tenant: schema.TenantDocument,
        policy: Policy,
        flows: Mapping[str, Flow],
        tools: Mapping[str, ToolSpec],
    ) -> Agent:
        consent = spec.consent
        return Agent(
            tenant=tenant.metadata.name,
            name=name,
            timezone=tenant.spec.timezone,
            language=spec.language,
            voice=spec.voice,
            greeting=spec.greeting,
            numbers=tuple(spec.numbers),
            title=tenant.spec.title,
            human=spec.human,
            consent=None
            if consent is None
            else Consent(
                prompt=consent.prompt,
                again=consent.again,
                accepted=consent.accepted,
                declined=consent.declined,
                is_carried_over=_may_carry_consent(tenant.spec.governance),
            ),
            sources=tuple(
                KnowledgeSource(name=part.name, path=self._items_file(part), mention=part.mention)
                for part in spec.knowledge
            ),
            intents=tuple(_intent(intent, part) for intent, part in spec.intents.items()),
            flows=flows,
            tools=tools,
            phrases=_phrases(spec.phrases),
            policy=policy,
        )

    def _items_file(self, part: schema.SourcePart) -> Path | None:
        return None if part.file is None or self._has_replica else self._directory / part.file


def _texts_of(step: schema.StepPart) -> list[str]:
    texts = [step.say, step.finish]
    if step.ask is not None:
        texts += [step.ask.prompt, *step.ask.reprompts]
    if step.confirm is not None:
        texts.append(step.confirm.prompt)
    if step.tool is not None:
        texts += [step.tool.filler, step.tool.failed, *step.tool.arguments.values()]
    if step.hand_over is not None:
        texts.append(step.hand_over.text)
    return [text for text in texts if text is not None]


def _policy(spec: schema.PolicySpec) -> Policy:
    return Policy(
        bands=Bands(answer=spec.bands.answer, confirm=spec.bands.confirm),
        misunderstandings=spec.misunderstandings,
        sensitive={topic: tuple(words) for topic, words in spec.sensitive.items()},
        generation_budget_s=spec.generation_budget_s,
        ring_back_s=spec.ring_back_s,
    )


def _may_carry_consent(governance: schema.GovernancePart | None) -> bool:
    """The packs of the tenant's laws were held against what it says here, before it came to the region."""
    return governance is not None and governance.recording is not None and governance.recording.consent != "opt_in"


def _flow(name: str, spec: schema.FlowSpec) -> Flow:
    return Flow(
        name=name,
        title=spec.title,
        slots=tuple(_slot(slot, part) for slot, part in spec.slots.items()),
        steps=tuple(Step(act=_act(part), when=part.when) for part in spec.steps),
        cancelled=spec.cancelled,
    )


def _slot(name: str, part: schema.SlotPart) -> Slot:
    choices = tuple(Choice(value=choice.value, words=tuple(choice.words)) for choice in part.choices)
    return Slot(name=name, kind=SlotKind(part.kind), digits=part.digits, choices=choices, source=part.source)


def _act(part: schema.StepPart) -> StepAct:
    if part.ask is not None:
        return Ask(slot=part.ask.slot, prompt=part.ask.prompt, reprompts=tuple(part.ask.reprompts))
    if part.confirm is not None:
        return Confirm(prompt=part.confirm.prompt, retry=tuple(part.confirm.retry))
    if part.tool is not None:
        tool = part.tool
        return UseTool(
            tool=tool.name,
            arguments=tool.arguments,
            filler=tool.filler,
            failed=tool.failed,
            hand_over=tool.hand_over,
        )
    if part.hand_over is not None:
        return HandOver(reason=part.hand_over.reason, text=part.hand_over.text)
    if part.say is not None:
        return Say(text=part.say)
    return Finish(text=part.finish or "", hang_up=part.hang_up)


def _intent(name: str, part: schema.IntentPart) -> Intent:
    return Intent(
        name=name,
        title=part.title or name.replace("_", " "),
        examples=tuple(part.examples),
        answers=_answers(part),
        item=part.item,
        knowledge=part.knowledge,
        flow=part.flow,
        escalate=part.escalate,
        goodbye=part.goodbye,
        style=ReplyStyle(part.reply),
    )


def _answers(part: schema.IntentPart) -> tuple[Answer, ...]:
    if part.answer is None:
        return ()
    if isinstance(part.answer, str):
        return (Answer(text=part.answer),)
    return tuple(Answer(text=answer.say, when=answer.when) for answer in part.answer)


def _phrases(part: schema.PhrasesPart) -> Phrases:
    failed = part.transfer_failed
    return Phrases(
        not_known=tuple(part.not_known),
        not_understood=tuple(part.not_understood),
        confirm=part.confirm,
        which_item=part.which_item,
        anything_else=part.anything_else,
        escalating=part.escalating,
        transfer_failed={"busy": failed.busy, "no_answer": failed.no_answer, "unreachable": failed.unreachable},
        no_input=tuple(part.no_input),
        silence_goodbye=part.silence_goodbye,
        goodbye=part.goodbye,
        resume=part.resume,
        ring_back=part.ring_back,
        ring_back_topic=part.ring_back_topic,
        back_to_flow=part.back_to_flow,
        filler=tuple(part.filler),
        more_digits=part.more_digits,
    )


def _problem(path: Path, line: int, key: str, message: str, hint: str = "") -> DocumentProblem:
    return DocumentProblem(path=path, line=line, key=key, message=message, hint=hint)
