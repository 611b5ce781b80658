"""Ready studies: what 'mqmha study' runs."""
