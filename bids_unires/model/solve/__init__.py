"""Minimising the objective over images, poses of scans and weights of repeats.

- `problem`: what is solved for (`Problem`), and when the solver stops (`Stop`).
- `objective`: the value of the objective, and the products with A'A that the solver needs.
- `solver`: the solver; `Descent.bound` and then `Descent.step` are one iteration of it.
- `sure`: the weight of the prior, searched by Stein's unbiased risk estimate.
- `pose`: refined poses of repeats.
- `repeat_weights`: precisions of repeats that disagree by more than noise.
- `repeats`: images, poses and weights of repeats in turn.
- `residual_feedback`: residuals of scans added back to the images.
"""
