"""The inference service of a node and its client: recognise, synthesise, generate, embed."""
