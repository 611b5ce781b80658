"""Explains the terms of a report to readers who are new to them."""

GLOSSARY = {
    "Trial": "A question: do the first recording (enrolment) and the second one (test) have the same speaker? "
    "The true answer is yes in a target trial and no in a nontarget trial.",
    "Score, threshold": "The system answers with a number, which is higher the more likely the speakers are the same. "
    "It accepts trials at or above a threshold and rejects the others.",
    "Miss, false alarm": "The two errors. A miss rejects a target; a false alarm accepts a nontarget. "
    "A higher threshold causes more misses and fewer false alarms.",
    "EER": "Equal error rate: the share of wrong decisions at the threshold where misses and false alarms are equally "
    "frequent. 0 % is perfect, 50 % is guessing.",
    "DET curve": "Misses against false alarms at every threshold, on axes that turn normal scores into a straight "
    "line. Nearer to the lower left corner is better.",
    "minDCF": "The lowest average cost of decisions if a target has the given prior probability (0.01: one in a "
    "hundred), at the best threshold for this list. Deciding without listening costs 1.",
    "actDCF": "The same cost at the threshold that theory gives for calibrated scores, without looking at the answers. "
    "Wrong calibration causes the difference from minDCF.",
    "Calibration": "Turns scores into log-likelihood ratios by a map learned on other trials. A ratio says how many "
    "times likelier (as a natural logarithm) the score is if the speakers are the same: 0 says nothing, 2.3 is ten to "
    "one.",
    "Cllr, minCllr": "The cost, in bits, of trusting calibrated scores at every prior: 0 is perfect, 1 is no "
    "information. minCllr is the cost that remains after the best recalibration on this very list.",
    "AS-norm": "Adaptive score normalisation: measures how far a score stands out from the scores that the same "
    "recordings reach with the nearest speakers of a large group of others (the cohort).",
    "Back-end (whitened, LDA, PLDA)": "Learned on recordings of known speakers. Whitening gives all directions of the "
    "embeddings the same spread; LDA keeps the directions in which speakers differ most; PLDA compares how likely the "
    "embeddings are with one speaker and with two.",
    "95 % interval": "The range in which the number would probably lie with other speakers of the same kind. The "
    "bootstrap finds it: it draws the list's speakers again and again with replacement. Do not rely on it with fewer "
    "than 20 speakers.",
}
