"""The person as the unit, evidence as forensic science reports it, and diagnostic accuracy: what a referee asks for.

- `pooling`: the images of a person as one answer
- `likelihood_ratios`: Cllr, Cllr_min, bounds, Tippett, empirical cross-entropy, verbal scale
- `report`: all of these with intervals over people; `person`: per image, per image after pooling, per person
- `diagnostics`: sensitivity, specificity, LR+ and LR-, predictive values at a prevalence, net benefit
"""
