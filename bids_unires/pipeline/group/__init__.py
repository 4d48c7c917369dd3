"""The group level: bring the images of all participants to one grid.

- `workflow`: the steps of the group level, in order; start reading here.
- `cohort`: the participants whose images can be used (`Member`), and the reasons why others cannot.
- `cohort_mean`: the mean image to which participants are aligned if there is no template.
- `study_alignment`: align each participant, and find its brain and head.
- `study_grid`: the grid that contains the brains or heads of all participants.
- `study_images`: bring the images of one participant to this grid.
- `study_members`: the participants whose images are on this grid, and outdated images.
- `study_means`: the mean image of each contrast.
- `quality`: measures of the quality of an image.
- `table`: the table with one row for each image.
- `reporting`: the report page.
"""
