"""How an evaluation is shown: tables, plots, the HTML page, the comparison of systems."""
