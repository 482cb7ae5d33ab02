"""What operators see of a process: structured logs without personal data, and metrics."""
