"""Parameters that both ends of a latency sketch must share, or sketches cannot be merged (uplink.proto, Sketch)."""

# Percentiles read from merged sketches are promised within 1 % of the exact ones; half of it is left for the
# difference between neighbouring values.
RELATIVE_ACCURACY = 0.005
# Ten equal bins of confidence.
CONFIDENCE_BINS = 10
