"""A seeded world of landscapes, rendered to any catalog sensor. Pure numpy: nothing here needs torch.

`world` lays out landscapes (what is where), `materials` knows what each surface looks like at any wavelength and
day of the year, `render` is the instrument, `diagnostic` makes two tasks whose answer is known beforehand.
"""
