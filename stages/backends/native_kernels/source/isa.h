// The instruction set that the engine is compiled for; `library.py` names its header.
#pragma once
#ifndef ISA_HEADER
#define ISA_HEADER "isa/scalar.h"
#endif
#include ISA_HEADER
