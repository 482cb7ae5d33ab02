"""From documents to signed bundles, one stream a region, and their way down."""
