"""The hub: policy, knowledge and fleet (arrives with the issues that follow the voice path)."""
