"""What is written down about calls: one SQLite database per tenant, one writer, typed rows."""
