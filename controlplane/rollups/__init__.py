"""What nodes count, added up at the hub: every rollup exactly once, nothing but counts and known names."""
