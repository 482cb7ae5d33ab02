"""The admin half of `borough`: every command is one request to the hub."""
