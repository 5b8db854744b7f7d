// Input: a .npz file.
#include "parser_properties.h"

FUZZ_PARSER(kNpzParser)
