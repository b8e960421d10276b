"""Programs that measure: quality beside other programs, speed, memory. Nothing imports them."""
