"""The authority as a process of the hub's machine: nobody else holds its key."""
