// What this CPU can do, of all that an instruction set of the engine asks for: compiled for any CPU.
#include <cstdint>
#include <string>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

namespace {

// By cpuid and xgetbv themselves: not every compiler brings the library that __builtin_cpu_supports asks.
std::string found() {
    uint32_t eax, ebx, ecx, edx, low = 0, high, last = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) return "";
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));  // the registers that the system keeps
    const bool avx = (low & 0x06) == 0x06, avx512 = (low & 0xE6) == 0xE6;
    if (!avx || !__get_cpuid_count(7, 0, &last, &ebx, &ecx, &edx)) return "";
    std::string names;
    if (ebx & bit_AVX2) names += "avx2 ";
    if (avx512) {
        if (ebx & bit_AVX512F) names += "avx512f ";
        if (ebx & bit_AVX512BW) names += "avx512bw ";
        if (ebx & bit_AVX512DQ) names += "avx512dq ";
        if (ebx & bit_AVX512VL) names += "avx512vl ";
        if (ecx & bit_AVX512VNNI) names += "avx512_vnni ";
        if (ecx & bit_AVX512VBMI) names += "avx512_vbmi ";
    }
    if (last >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 4))) names += "avx_vnni ";
    return names;
}

}  // namespace
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

namespace {

// The bits of <asm/hwcap.h>, which older systems' headers lack.
std::string found() {
    std::string names = "neon ";
    if (getauxval(AT_HWCAP) & (1ul << 20)) names += "dotprod ";
    if (getauxval(AT_HWCAP2) & (1ul << 13)) names += "i8mm ";
    return names;
}

}  // namespace
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

namespace {

bool has(const char *name) {
    int32_t value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value;
}

std::string found() {
    std::string names = "neon ";
    if (has("hw.optional.arm.FEAT_DotProd")) names += "dotprod ";
    if (has("hw.optional.arm.FEAT_I8MM")) names += "i8mm ";
    return names;
}

}  // namespace
#else
namespace {
std::string found() { return ""; }
}  // namespace
#endif

// Names, each with a space behind it.
extern "C" const char *features() {
    static const std::string names = found();
    return names.c_str();
}
