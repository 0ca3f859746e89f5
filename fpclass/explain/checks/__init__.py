"""Does a map mean anything? Checks of any function that makes maps of images, by arrays in and arrays out.

`removal` takes away what a map marks, `randomise` the weights it was made with, `stability` adds a little noise,
`objects` asks how much of it lies on the object. `checked` does all of them for some images, `summary` puts intervals
and words to them, `figures` draws them.
"""
