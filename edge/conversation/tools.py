"""Calls the systems an agent may use: webhooks with typed arguments, a deadline and an idempotency key."""

import json
from collections.abc import Mapping
from typing import Protocol

import aiohttp

from edge.conversation.agent import Agent, Argument, SlotKind, ToolSpec
from edge.conversation.dialogue import RunTool, ToolResult
from edge.conversation.errors import ToolFailedError

_MAX_FIELDS = 32
_MAX_FIELD_CHARACTERS = 300


class Tool(Protocol):
    """One system an agent may use."""

    async def call(self, arguments: Mapping[str, str], *, key: str) -> Mapping[str, str]:
        """Return the fields of the answer. `key` is the same for every attempt at the same act.

        Raises ToolFailedError.
        """


class Webhook:
    """POSTs JSON arguments to a URL of the tenant's documents; the answer is a flat JSON object."""

    def __init__(self, spec: ToolSpec, session: aiohttp.ClientSession) -> None:
        self._spec = spec
        self._session = session

    async def call(self, arguments: Mapping[str, str], *, key: str) -> Mapping[str, str]:
        """See Tool. Redirects are not followed: only the configured address is ever asked."""
        if self._spec.url is None:
            raise ToolFailedError("tool_not_configured", f"tool {self._spec.name} has no url")
        checked = checked_arguments(self._spec, arguments)
        headers = {"Idempotency-Key": key} | self._authorization()
        timeout = aiohttp.ClientTimeout(total=self._spec.timeout_s)
        try:
            async with self._session.post(
                self._spec.url, json=checked, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise ToolFailedError("tool_refused", f"tool {self._spec.name} answered {response.status}")
                body = await _read(response, self._spec)
        except TimeoutError as error:
            raise ToolFailedError("tool_late", f"tool {self._spec.name} took over {self._spec.timeout_s} s") from error
        except aiohttp.ClientError as error:
            raise ToolFailedError("tool_unreachable", f"tool {self._spec.name}: {error}") from error
        return _fields(self._spec, body)

    def _authorization(self) -> dict[str, str]:
        if self._spec.secret_file is None:
            return {}
        try:
            # A few bytes from a local file; read each time so that a rotated secret is used at once.
            secret = self._spec.secret_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ToolFailedError("tool_not_configured", f"{self._spec.secret_file}: {error.strerror}") from error
        return {"Authorization": f"Bearer {secret}"}


class Toolbox:
    """The tools of one agent, by name."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self._tools = tools

    @classmethod
    def of(cls, agent: Agent, session: aiohttp.ClientSession) -> "Toolbox":
        """Return webhooks for all tools of the agent."""
        return cls({name: Webhook(spec, session) for name, spec in agent.tools.items()})

    async def run(self, action: RunTool, *, key: str) -> ToolResult:
        """Run a tool and return its fields, or its error's code; never raises for a failed tool."""
        tool = self._tools.get(action.tool)
        if tool is None:
            return ToolResult(tool=action.tool, error="tool_not_configured")
        try:
            return ToolResult(tool=action.tool, fields=await tool.call(action.arguments, key=key))
        except ToolFailedError as error:
            return ToolResult(tool=action.tool, error=error.reason)


def checked_arguments(spec: ToolSpec, arguments: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments if they are exactly those the tool takes. Raises ToolFailedError."""
    if set(arguments) != set(spec.arguments):
        raise ToolFailedError("tool_arguments", f"tool {spec.name} takes {', '.join(sorted(spec.arguments))}")
    for name, value in arguments.items():
        if not _fits(spec.arguments[name], value):
            raise ToolFailedError("tool_arguments", f"tool {spec.name}: {name} does not fit")
    return dict(arguments)


def _fits(argument: Argument, value: str) -> bool:
    if not value or len(value) > _MAX_FIELD_CHARACTERS:
        return False
    if argument.kind is SlotKind.DIGITS:
        return value.isascii() and value.isdigit() and argument.digits in {None, len(value)}
    return argument.kind is not SlotKind.YES_NO or value in {"yes", "no"}


async def _read(response: aiohttp.ClientResponse, spec: ToolSpec) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(4096):
        body += chunk
        if len(body) > spec.response_limit_bytes:
            raise ToolFailedError("tool_answer", f"tool {spec.name} answered over {spec.response_limit_bytes} bytes")
    return body


def _fields(spec: ToolSpec, body: bytes) -> dict[str, str]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise ToolFailedError("tool_answer", f"tool {spec.name} did not answer in JSON") from error
    if not isinstance(answer, dict) or len(answer) > _MAX_FIELDS:
        raise ToolFailedError("tool_answer", f"tool {spec.name} must answer with a flat object")
    fields: dict[str, str] = {}
    for name, value in answer.items():
        if isinstance(value, bool):
            fields[name] = "yes" if value else "no"
        elif isinstance(value, str | int | float):
            fields[name] = str(value)[:_MAX_FIELD_CHARACTERS]
        elif value is not None:
            raise ToolFailedError("tool_answer", f"tool {spec.name}: {name} must be text, a number or true/false")
    if not all(_is_text(part) for field in fields.items() for part in field):
        raise ToolFailedError("tool_answer", f"tool {spec.name} answered with half a character (a lone surrogate)")
    return fields


def _is_text(value: str) -> bool:
    """JSON can carry half of a surrogate pair, which nothing behind us can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
