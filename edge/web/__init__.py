"""The node's web page: calls from a browser, shown live."""
