"""report.html and methods.md of a run folder, made of its files alone: no images, no weights.

`subject` says where the files of a run have what a report tells, `methods` is the text for a paper, `sections` has
those of a run and a study alike, `reproduce` the command that makes it once more, `write` puts them together. A study's
page (`fpclass.study.page`) has a subject of its own. Whatever is missing or damaged is said in its place, and the rest
is written all the same.

From elsewhere: `write.write_run_report`; in `study.page` all of it.
"""
