"""Reports an evaluation: tables, plots, the HTML page, the comparison of systems."""
