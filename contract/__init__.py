"""Everything that crosses a process border: messages, subjects, shared enums and error codes. No I/O."""
