// Input: a GGUF file.
#include "parser_properties.h"

FUZZ_PARSER(kGgufParser)
