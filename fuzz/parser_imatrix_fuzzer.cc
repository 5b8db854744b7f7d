// Input: an imatrix file of before GGUF.
#include "parser_properties.h"

FUZZ_PARSER(kImatrixParser)
