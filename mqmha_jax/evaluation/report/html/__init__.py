"""The report as a page: one HTML file that needs no network, of everything that an evaluation found."""
