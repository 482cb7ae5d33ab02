"""From an operator's directory of YAML to an `Agent`, or to the full list of its mistakes.

A directory holds one Tenant, its Agents, Flows and Policies in `*.yaml`, one or several documents a file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError
from rapidfuzz import process

from edge.conversation import schema
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
from edge.conversation.errors import DocumentProblem, DocumentsInvalidError
from edge.conversation.template import TemplateError, placeholders
from edge.conversation.yaml_source import KeyPath, SourceDocument, read_documents

# Below this a "did you mean" is a guess about another word.
_SUGGESTION_CUTOFF = 60

_AnyDocument = schema.AgentDocument | schema.FlowDocument | schema.TenantDocument | schema.PolicyDocument
_Doc = TypeVar("_Doc", bound=_AnyDocument)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    source: SourceDocument
    document: _AnyDocument


def load_agents(directory: Path) -> tuple[Agent, ...]:
    """Return the agents of a tenant's directory. Raises DocumentsInvalidError with every problem found."""
    problems: list[DocumentProblem] = []
    checked: list[_Checked] = []
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise DocumentsInvalidError([_problem(directory, 1, directory.name, "holds no *.yaml file")])
    for path in paths:
        try:
            sources = read_documents(path)
        except DocumentsInvalidError as error:
            problems += error.problems
            continue
        for source in sources:
            document, found = _check_shape(source)
            problems += found
            if document is not None:
                checked.append(_Checked(source=source, document=document))
    if problems:
        raise DocumentsInvalidError(problems)
    return _Tenant(directory, checked).agents()


def _check_shape(source: SourceDocument) -> tuple[_AnyDocument | None, list[DocumentProblem]]:
    kind = source.value.get("kind")
    model = schema.DOCUMENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        allowed = ", ".join(sorted(schema.DOCUMENTS))
        hint = _suggestion(str(kind), schema.DOCUMENTS)
        message = f"{kind!r} is not a kind of document; one of {allowed}"
        return None, [_problem(source.path, source.line(("kind",)), "kind", message, hint)]
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
    name = ".".join(str(part) for part in key) or "document"
    line = source.line(key)
    if kind == "extra_forbidden":
        allowed = sorted(_keys_at(model, key[:-1]))
        text = f"is not a known key; one of {', '.join(allowed)}" if allowed else "is not a known key"
        return _problem(source.path, line, name, text, _suggestion(str(key[-1]), allowed))
    return _problem(source.path, line, name, message.removeprefix("Value error, "))


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
    return candidate.model_fields if isinstance(candidate, type) and issubclass(candidate, BaseModel) else ()


def _inside(candidate: object, part: str | int) -> list[object]:
    if isinstance(candidate, type) and issubclass(candidate, BaseModel):
        information = candidate.model_fields.get(str(part))
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


class _Tenant:
    """The checked documents of one directory, joined; every reference must lead somewhere."""

    def __init__(self, directory: Path, checked: Sequence[_Checked]) -> None:
        self._directory = directory
        self._checked = checked
        self._problems: list[DocumentProblem] = []

    def agents(self) -> tuple[Agent, ...]:
        tenant = self._only_tenant()
        policies = {name: _policy(document.spec) for name, _, document in self._named(schema.PolicyDocument)}
        flows = {name: (source, document.spec) for name, source, document in self._named(schema.FlowDocument)}
        agents: list[Agent] = []
        if tenant is not None:
            tools = {name: self._tool(name, part) for name, part in tenant.spec.tools.items()}
            for name, (source, spec) in flows.items():
                self._check_flow(source, spec, name, tenant.spec.tools)
            built = {name: _flow(name, spec) for name, (_, spec) in flows.items()}
            for name, source, document in self._named(schema.AgentDocument):
                self._check_agent(source, document.spec, set(flows), set(policies))
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
                name = entry.document.metadata.name
                if name in found:
                    self._complain(entry.source, ("metadata", "name"), f"a second {entry.document.kind} named {name!r}")
                found[name] = (name, entry.source, entry.document)
        return list(found.values())

    def _only_tenant(self) -> schema.TenantDocument | None:
        tenants = self._named(schema.TenantDocument)
        if len(tenants) != 1:
            text = f"there must be one Tenant document, found {len(tenants)}"
            self._problems.append(_problem(self._directory, 1, "kind", text))
            return None
        _, source, document = tenants[0]
        try:
            ZoneInfo(document.spec.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            self._complain(source, ("spec", "timezone"), f"{document.spec.timezone!r} is not a time zone")
        return document

    def _check_flow(
        self, source: SourceDocument, spec: schema.FlowSpec, name: str, tools: Mapping[str, schema.ToolPart]
    ) -> None:
        known = set(spec.slots)
        returned: set[str] = {"title"}
        for index, step in enumerate(spec.steps):
            key: KeyPath = ("spec", "steps", index)
            if step.ask is not None:
                self._check_name(source, (*key, "ask", "slot"), step.ask.slot, known, "slot")
            if step.confirm is not None:
                for slot in step.confirm.retry:
                    self._check_name(source, (*key, "confirm", "retry"), slot, known, "slot")
            if step.tool is not None:
                self._check_name(source, (*key, "tool", "name"), step.tool.name, set(tools), "tool")
                if step.tool.name in tools:
                    tool = tools[step.tool.name]
                    returned |= set(tool.returns)
                    for argument in step.tool.arguments:
                        self._check_name(
                            source, (*key, "tool", "arguments", argument), argument, set(tool.arguments), "argument"
                        )
            for slot in step.when:
                self._check_name(source, (*key, "when", slot), slot, known | returned, "slot")
            for text in _texts_of(step):
                self._check_template(source, key, text, known | returned)
        del name

    def _check_agent(self, source: SourceDocument, spec: schema.AgentSpec, flows: set[str], policies: set[str]) -> None:
        sources = {part.name for part in spec.knowledge}
        for index, part in enumerate(spec.knowledge):
            if not (self._directory / part.file).is_file():
                self._complain(source, ("spec", "knowledge", index, "file"), f"{part.file!r} is not a file")
        for name, intent in spec.intents.items():
            key: KeyPath = ("spec", "intents", name)
            for field, value, known, noun in (
                ("flow", intent.flow, flows, "flow"),
                ("knowledge", intent.knowledge, sources, "knowledge source"),
                ("item", intent.item, sources, "knowledge source"),
            ):
                if value is not None:
                    self._check_name(source, (*key, field), value, known, noun)
            self._check_template(source, (*key, "title"), intent.title or name, {"item"} if intent.item else set())
            for answer in _answers(intent):
                self._check_template(source, (*key, "answer"), answer.text, None if intent.item else set())
        if spec.policy is not None:
            self._check_name(source, ("spec", "policy"), spec.policy, policies, "policy")
        self._check_template(source, ("spec", "phrases", "confirm"), spec.phrases.confirm, {"question"})
        self._check_template(source, ("spec", "phrases", "back_to_flow"), spec.phrases.back_to_flow, {"title"})

    def _check_name(self, source: SourceDocument, key: KeyPath, name: str, known: set[str], noun: str) -> None:
        if name not in known:
            allowed = f"one of {', '.join(sorted(known))}" if known else f"there is no {noun}"
            self._complain(source, key, f"{name!r} is not a {noun}; {allowed}", _suggestion(name, known))

    def _check_template(self, source: SourceDocument, key: KeyPath, text: str, known: set[str] | None) -> None:
        try:
            places = placeholders(text)
        except TemplateError as error:
            self._complain(source, key, str(error))
            return
        for place in places:
            if known is not None and place.name not in known:
                self._complain(source, key, f"{{{place.name}}} has no value here", _suggestion(place.name, known))

    def _complain(self, source: SourceDocument, key: KeyPath, message: str, hint: str = "") -> None:
        name = ".".join(str(part) for part in key)
        self._problems.append(_problem(source.path, source.line(key), name, message, hint))

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
                prompt=consent.prompt, again=consent.again, accepted=consent.accepted, declined=consent.declined
            ),
            sources=tuple(
                KnowledgeSource(name=part.name, path=self._directory / part.file, mention=part.mention)
                for part in spec.knowledge
            ),
            intents=tuple(_intent(intent, part) for intent, part in spec.intents.items()),
            flows=flows,
            tools=tools,
            phrases=_phrases(spec.phrases),
            policy=policy,
        )


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
    )


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
        back_to_flow=part.back_to_flow,
        filler=tuple(part.filler),
        more_digits=part.more_digits,
    )


def _suggestion(word: str, allowed: Iterable[str]) -> str:
    best = process.extractOne(word, list(allowed), score_cutoff=_SUGGESTION_CUTOFF)
    return f"did you mean {best[0]!r}?" if best is not None else ""


def _problem(path: Path, line: int, key: str, message: str, hint: str = "") -> DocumentProblem:
    return DocumentProblem(path=path, line=line, key=key, message=message, hint=hint)
