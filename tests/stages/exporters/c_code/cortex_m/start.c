/* Bare metal under qemu: runs SAMPLES of the network, prints output levels, SysTick's ticks, bytes of stack. */
#include "model.h"
#include "samples.h"

extern uint32_t stack_top[], stack_low[];

static void semihost(uint32_t call, const void *argument)
{
    register uint32_t r0 __asm__("r0") = call;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void print(int32_t number)
{
    char text[13];
    uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    int i = 12;
    text[i] = 0;
    text[--i] = '\n';
    do {
        text[--i] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) {
        text[--i] = '-';
    }
    semihost(4, text + i); /* SYS_WRITE0 */
}

#define SYSTICK ((volatile uint32_t *)0xE000E010u)

void reset(void)
{
    MODEL_OUTPUT_TYPE output[MODEL_OUTPUT_SIZE];
    uint32_t ticks = 0, used = 0, start;
    uint32_t *word;
    int32_t i, j;
    *(volatile uint32_t *)0xE000ED88u |= 0xF00000u; /* CPACR: the floating point unit */
    __asm__ volatile("dsb\n\tisb");
    for (word = stack_low; word < (uint32_t *)(void *)__builtin_frame_address(0) - 40; word++) {
        *word = 0xA5A5A5A5u;
    }
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* enabled, at the processor's clock */
    for (i = 0; i < SAMPLES; i++) {
        start = SYSTICK[2];
        model_run((const int8_t *)samples[i], (int8_t *)output);
        ticks += (start - SYSTICK[2]) & 0xFFFFFFu;
        for (j = 0; j < MODEL_OUTPUT_SIZE; j++) {
            print(output[j]);
        }
    }
    for (word = stack_low; *word == 0xA5A5A5A5u; word++) {
    }
    used = (uint32_t)(stack_top - word) * 4;
    print((int32_t)ticks);
    print((int32_t)used);
    semihost(0x18, (const void *)0x20026u); /* SYS_EXIT, ADP_Stopped_ApplicationExit */
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {stack_top, (void *)reset};
