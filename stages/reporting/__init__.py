"""The report of a run: what is read off its artifacts, the plots of it, and the page that shows them."""
