"""Documents of operators: read, checked against each other, stored with every revision."""
