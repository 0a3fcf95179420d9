/* Windows over images (C, H, W). */
typedef struct {
    int32_t channels, height, width, out_height, out_width;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
} pool_t;
