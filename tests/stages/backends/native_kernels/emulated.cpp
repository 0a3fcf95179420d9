// Runs plans from a file and writes what they give: the engine on a CPU that has no Python here. `emulated.py`
// writes the file: numbers of 64 bits, each followed by as many bytes as it says where it is a length.
#include <cstdio>
#include <cstdlib>
#include "engine.cpp"

namespace {

FILE *file;

int64_t number() {
    int64_t value;
    if (std::fread(&value, sizeof value, 1, file) != 1) std::exit(3);
    return value;
}

// 64-byte aligned, and zeros behind.
uint8_t *block(int64_t bytes) {
    auto *memory = static_cast<uint8_t *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
    std::memset(memory, 0, (bytes + 127) / 64 * 64);
    return memory;
}

uint8_t *read_block() {
    const int64_t bytes = number();
    uint8_t *memory = block(bytes);
    if (std::fread(memory, 1, bytes, file) != size_t(bytes)) std::exit(3);
    return memory;
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 3 || !(file = std::fopen(arguments[1], "rb"))) return 2;
    FILE *results = std::fopen(arguments[2], "wb");
    int64_t sizes[4];
    layout(sizes);
    for (const int64_t size : sizes)
        if (number() != size) return 4;
    if (number() != dot_offset()) return 5;
    for (int64_t plans = number(); plans; plans--) {
        const int64_t samples = number(), members = number(), arena_bytes = number();
        const int64_t step_count = number();
        auto *steps = reinterpret_cast<EngineStep *>(read_block());
        auto *images = reinterpret_cast<Image *>(read_block());
        uint8_t *pinned = read_block();
        for (int64_t pointers = number(); pointers; pointers--) {  // at a byte of the steps, to one of what they point to
            const int64_t at = number(), to = number();
            uint8_t *address = pinned + to;
            std::memcpy(reinterpret_cast<uint8_t *>(steps) + at, &address, sizeof address);
        }
        std::vector<ExternalArray> arrays;
        for (int64_t inputs = number(); inputs; inputs--) {
            const int64_t bytes = number();
            arrays.push_back({read_block(), bytes});
        }
        const size_t outputs_from = arrays.size();
        for (int64_t outputs = number(); outputs; outputs--) {
            const int64_t bytes = number();
            arrays.push_back({block(bytes * samples), bytes});
        }
        std::vector<uint8_t *> arenas;
        for (int64_t member = 0; member < members; member++) arenas.push_back(block(arena_bytes));
        void *const together = members > 1 ? team(int32_t(members)) : nullptr;
        run(steps, images, int32_t(step_count), arenas.data(), together, arrays.data(), samples, nullptr);
        if (together) disband(together);
        for (size_t i = outputs_from; i < arrays.size(); i++) std::fwrite(arrays[i].data, 1, arrays[i].bytes * samples, results);
    }
    return std::fclose(results) ? 6 : 0;
}
