"""The words of a report, for readers who meet them for the first time."""

GLOSSARY = {
    "Trial": "A question: is the speaker of the first recording (enrolment) the speaker of the second one (test)? "
    "In a target trial the true answer is yes, in a nontarget trial it is no.",
    "Score, threshold": "The system answers with a number, higher for 'same speaker'. Trials at or above a threshold "
    "are accepted, the others rejected.",
    "Miss, false alarm": "The two errors: a target is rejected, or a nontarget is accepted. "
    "A higher threshold makes more of the first and fewer of the second.",
    "EER": "Equal error rate: at the threshold where both error rates are equal, the share of wrong decisions. "
    "0 % is perfect, 50 % is guessing.",
    "DET curve": "Misses against false alarms at every threshold, on axes that make normal scores a straight line. "
    "Nearer to the lower left corner is better.",
    "minDCF": "Lowest average cost of decisions when a target has the given prior probability (0.01: one in a "
    "hundred), at the best threshold for this list. 1 is what deciding without listening costs.",
    "actDCF": "The same cost at the threshold that theory gives for calibrated scores, without looking at the answers. "
    "What it exceeds minDCF by is lost through wrong calibration.",
    "Calibration": "A map from scores to log-likelihood ratios, learned on other trials: how many times likelier (as a "
    "natural logarithm) the score is if the speakers are the same. 0 says nothing, 2.3 is ten to one.",
    "Cllr, minCllr": "Cost, in bits, of taking calibrated scores at their word at every prior: 0 is perfect, 1 is no "
    "information. minCllr is what remains after the best recalibration on this very list.",
    "AS-norm": "Adaptive score normalisation: how far a score stands out from the scores of the same recordings with "
    "the nearest of many other speakers (the cohort).",
    "Back-end (whitened, LDA, PLDA)": "Fitted on recordings of known speakers. Whitening gives all directions of the "
    "embeddings the same spread; LDA keeps those in which speakers differ most; PLDA asks how likely the embeddings "
    "are if one speaker made them, against two.",
    "95 % interval": "Where the number would probably be with other speakers of the same kind: the speakers of the "
    "list are drawn again and again with replacement (bootstrap). With fewer than 20 speakers do not rely on it.",
}
