"""What happens to a cohort: read `workflow` from top to bottom.

- `cohort`: participants whose images can be used (`Member`), and why others cannot.
- `cohort_mean`: the mean head that everybody is aligned to without a template.
- `study_alignment`: each participant is aligned; brain and head are found.
- `study_grid`: the grid that holds all of them.
- `study_members`, `study_images`: images come to that grid, or are there already.
- `study_means`: mean images.
- `quality`, `table`, `reporting`: numbers about the images, the table and the page.
"""
