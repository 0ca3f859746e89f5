"""What a referee asks for beside the scores: parts of the images, images from elsewhere, more people, tests by name.

`subgroups` (levels of a column), `external` (what is frozen, on other images), `learning_curve` (scores by the number
of people), `clustered` (McNemar and DeLong for images in groups). Built on all of `fpclass.stats`, which knows nothing
of it.
"""
