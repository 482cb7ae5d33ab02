"""Dashboards as code: a compact description of each, and Grafana's JSON made of it. Pure but for `__main__`."""
