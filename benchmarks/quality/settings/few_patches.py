"""few_images without a palette, as it was fifth."""

import few_images

recipe = few_images.shaded()
