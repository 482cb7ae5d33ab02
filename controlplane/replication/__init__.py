"""A replica of the hub's database in the hub's JetStream, and the way back from it."""
