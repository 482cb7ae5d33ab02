"""Figures of a machine that no service of it tells: certificates, NATS, whether it is out of service."""
