"""From bare machine to running node: images, models, rendered settings, processes of a local region."""
