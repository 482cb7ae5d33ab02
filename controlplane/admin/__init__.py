"""The border of the admin API: who asks, what they may, and how errors are told."""
