/* Reads samples from standard input, MODEL_INPUT_BYTES each, and writes MODEL_OUTPUT_BYTES for each. */
#include <stdio.h>

#include "model.h"

int main(void)
{
    static MODEL_INPUT_TYPE input[MODEL_INPUT_SIZE];
    static MODEL_OUTPUT_TYPE output[MODEL_OUTPUT_SIZE];
    while (fread(input, 1, MODEL_INPUT_BYTES, stdin) == MODEL_INPUT_BYTES) {
        model_run((const int8_t *)input, (int8_t *)output);
        if (fwrite(output, 1, MODEL_OUTPUT_BYTES, stdout) != MODEL_OUTPUT_BYTES) {
            return 1;
        }
    }
    return 0;
}
