"""Choosing a method for a person's own pictures, and saying how good it will be.

task        the labelled pictures, and which are kept aside to judge by
frame       any picture on a canvas that a network takes, and back
reading     features of pictures of any size
family      what a candidate can do: `linear`, `networks`
candidates  which there are for a task
search      trying them within a budget
choice      from what was judged to weights and borders
threshold   from probabilities to masks
borders     drawing masks to the picture's edges
adapted     what is used in the end
estimate    what to expect of it
report      all of it in words
"""
