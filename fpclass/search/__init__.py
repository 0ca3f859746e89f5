"""The best model for labelled images, in one command and a budget of minutes.

`portfolio` names the ways that are tried, `halving` trains them, the promising ones further than the others, `advice`
says what would help most, `commands` is `best`. What comes of it is a study folder like any other.
"""
