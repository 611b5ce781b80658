"""Ready studies for 'mqmha study'."""
