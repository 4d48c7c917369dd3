"""The steps of the two analysis levels.

- `participant`: reconstruct the images of one participant; the steps are in `participant.workflow`.
- `group`: bring all participants to one grid; the steps are in `group.workflow`.
"""
