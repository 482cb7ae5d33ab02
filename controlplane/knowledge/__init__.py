"""Knowledge at the hub: items as a draft, their vectors, versions, and what is published to the regions."""
